"""Candidates for other programs: tables, DS9 regions, cutouts as FITS, a subject set for Zooniverse."""
