# Yours. What TazPod sets up is in /etc/tazpod/bashrc, and is read before this.
