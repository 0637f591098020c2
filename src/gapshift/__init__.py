"""gapshift: will a model that passed in training pass where it is deployed, level by level?"""

__version__ = "0.1.0"
