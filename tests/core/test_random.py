from kuleshov.core.random import numpy_generator


def test_generators_belong_to_the_sample():
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    draws = {key: numpy_generator(*key).random() for key in keys}
    assert len(set(draws.values())) == len(draws)
    for key, value in draws.items():
        assert numpy_generator(*key).random() == value
