"""Shops that do not exist: the demand, market and calibration that a policy is trained and judged in. numpy only.

`shop.step` is pure: the same generator state, shop state, prices and parameters give the same outcome. All arrays are
float64 with the shops first and the items last, `(shops, items)`; what a whole shop shares is `(shops, 1)`.
"""
