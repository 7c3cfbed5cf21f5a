"""The gate under examination: does λ find the item steps?"""
