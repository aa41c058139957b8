def pytorch(layer, generator):
    """x"""
