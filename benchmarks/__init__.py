"""Speed of this project beside PyTorch and the libraries people use today; see README.md."""
