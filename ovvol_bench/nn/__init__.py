"""Networks laid out anew for inference alone: packed weights, attention block by block.

What components are made of in fidelity ``fast``; see ``Component.prepare``.
"""
