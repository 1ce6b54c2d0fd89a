"""Figures for reports and papers, each made of a table that is its data: as SVG and PDF, and as CSV."""
