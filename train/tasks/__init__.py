"""What networks learn and are asked, one file per kind of answer."""
