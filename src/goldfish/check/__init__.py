"""Whether what a paper reports was reproduced: rules that can say no, applied to tables of results."""
