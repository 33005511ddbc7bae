"""From tile images to cutouts: file names, headers, positions, pixels."""
