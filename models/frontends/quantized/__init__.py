"""Programs with quantize and dequantize operators (PT2E's, and those that calibration makes) as integer networks."""
