"""Objects that a text mentions, as classes of COCO."""
