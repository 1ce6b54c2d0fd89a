"""A study of strips of layers on decoupled cores with several images in flight: ``docs/strips.md``.

No part of the product: nothing imports it. ``cut`` divides a network into strips, ``work`` says what images ask of
them, ``recurrence`` times them, ``rooms`` says which strips wait for whom and what memories hold, ``placement`` and
``anneal`` look for the cores that they run on. ``check`` compares all of it with the product's simulator, ``study``
collects the figures and ``table`` shows them.
"""
