"""What figures are drawn with: frames, rows, tiles, marks, axes and the look of all of them."""
