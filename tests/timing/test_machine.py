"""What is fixed of the machine, and what is left to chance."""

from bench.timing.machine import shuffle_memory


def test_a_shuffled_heap_is_another_each_time() -> None:
    one, another = shuffle_memory(), shuffle_memory()
    assert len(one) != len(another) or one != another
    assert {len(held) // 64 for held in one} == set(range(8))  # every size class of the interpreter's allocator
