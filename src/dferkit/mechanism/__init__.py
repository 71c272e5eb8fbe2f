"""The mechanism benchmark: tasks of which text alone and video alone know too little, and the grid of models that is compared on them."""
