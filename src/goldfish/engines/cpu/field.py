"""The description of one pass that the kernels read: 64-bit integers in this order.

R replicas, T steps, B sequences, H hidden units (padded to whole vectors), D inputs. A pointer is an address; 0 where
there is nothing. A stride is in numbers. Where a buffer has no stride of its own here, it is contiguous.
"""

from __future__ import annotations

(
    NEXT_JOB,  # counters that the threads share
    NEXT_SLOT,
    R,
    T,
    B,
    H,
    HIDDEN,  # units that are no padding
    D,
    DX,  # D padded to whole vectors
    ROWS,  # of a tile
    TILES,  # of a replica
    CHUNK,  # steps whose saved values are held at once: T, or fewer where they are computed again
    RING,  # steps whose adjoints are gathered before they enter the weights' gradients
    NONLINEARITY,  # 0 identity, 1 tanh, 2 ReLU, 3 σ
    X,  # inputs (R, T, B, D), by strides
    X_R,
    X_T,
    X_B,
    WEIGHT_IH,  # (R, D, G·H)
    WEIGHT_HH,  # (R, H, G·H)
    BIAS,  # (R, G·H); GRU: (R, 4H), b_hh of n last
    WEIGHT_IH_ROWS,  # (R, G·H, DX); 0 where no gradient of the inputs is asked for
    WEIGHT_HH_ROWS,  # (R, G·H, H)
    H0,  # (R, B, H)
    C0,
    OUTPUTS,  # h (R, T, B, H)
    SAVED,  # (R, tile, T, row, saved·H): what the backward pass reads of each step; 0 where it is computed again
    CELL,  # c (R, T, B, H), or at the starts of chunks (R, T/CHUNK, B, H)
    C_LAST,  # (R, B, H)
    DIRECT,  # what reaches h_t not through h_{t+1}: (R, T, B, H), by strides; 0 where nothing does
    DIRECT_R,
    DIRECT_T,
    DIRECT_B,
    DIRECT_EXPONENT,  # (R, T, B) int32; 0 where it is 2^0
    FINAL_H,  # what reaches the final state: (R, B, H)
    FINAL_C,
    LOG2_NORM_H,  # (R, T, B) float64: of each adjoint
    LOG2_NORM_C,
    LOG2_NORM_STATE,
    EXPONENT,  # (R, T, B) int32
    INPUT_GRADIENT,  # (R, T, B, DX), mantissas to EXPONENT
    WEIGHT_GRADIENT,  # (R, TILES, width, G·H)
    INITIAL_H,  # gradients of the initial state (R, B, H)
    INITIAL_C,
    SCRATCH,  # one stretch for each thread
    SCRATCH_SIZE,
) = range(46)
COUNT = 46
