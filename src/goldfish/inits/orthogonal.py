import torch
def orthogonal(layer, generator):
    """x"""
    for w in layer.weight_hh: w.copy_(torch.linalg.qr(torch.randn(w.shape,generator=generator,dtype=torch.float64))[0])
