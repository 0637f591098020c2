"""Control: episodes of gymnasium's CartPole and MountainCar, each with its own physics."""
