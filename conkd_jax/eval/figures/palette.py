"""The colours of every figure: Okabe and Ito's, distinct for people with colour blindness."""

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY, INK = "#9A9A9A", "#222222"
