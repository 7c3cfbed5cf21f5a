"""The paper: contextualized knowledge distillation for a unified conversational recommender.

One student writes the response and names the items in it. It learns from two teachers: a dialogue
teacher, which models how people talk about items, and a recommender, which models what this user
may like. At every token of the response a gate decides how much to learn from each. Read the files
in this order:

    gates.py     how much to learn from which teacher at a token      (eqs. 6 and 7)
    losses.py    what the student learns from each teacher            (eqs. 8 to 11)
    head.py      the output layer that every language model here ends in
    teachers.py  the forms in which the dialogue teacher's outputs can be stored
    fused.py     the loss of losses.py, computed without the logits of a whole batch

This folder is pure JAX. It must not depend on files, configs or models.
"""
