import torch
def identity(layer, generator):
    """x"""
    for w in layer.weight_hh: w.copy_(torch.eye(w.shape[0]))
