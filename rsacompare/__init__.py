"""How similar are two neural networks to the brain, and is one of them really closer?"""
