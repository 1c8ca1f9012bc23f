"""LVU's class names for the world's styles, with the official (sparse) class ids."""

# class index of a style -> official class id and class name
LVU_CLASSES: dict[str, tuple[tuple[int, str], ...]] = {
    "relationship": (
        (0, "friend"),
        (1, "ex_boyfriend_ex_girlfriend"),
        (2, "husband_wife"),
        (3, "boyfriend_girlfriend"),
    ),
    "way_speaking": ((0, "explains"), (1, "confronts"), (2, "discuss"), (3, "teaches"), (4, "threatens")),
    "scene": ((0, "office"), (1, "airport"), (2, "school"), (3, "hotel"), (4, "prison"), (5, "restaurant")),
    "director": (
        (0, "nm0000229"),
        (1, "nm0000217"),
        (4, "nm0000165"),
        (5, "nm0001675"),
        (6, "nm0040630"),
        (7, "nm0001392"),
        (8, "nm0000631"),
        (9, "nm0000233"),
    ),
    "writer": ((0, "\\N"), (1, "nm0001220"), (2, "nm0000175"), (5, "nm0000455")),
    "year": tuple((decade, str(1930 + 10 * decade)) for decade in range(9)),
    "genre": ((0, "Comedy"), (1, "Action-Crime-Adventure"), (2, "Romance"), (3, "Thriller-Horror")),
}
