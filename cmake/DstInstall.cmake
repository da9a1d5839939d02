# Install and export of the targets.
