"""What is fixed of the machine, and what is left to chance."""

from mmap import PAGESIZE, mmap

from bench.timing.machine import MOST_PAGES, shuffle_memory


def test_a_shuffled_heap_is_another_each_time() -> None:
    one, another = ([held for held in shuffle_memory() if isinstance(held, bytes)] for _ in range(2))
    assert len(one) != len(another) or one != another
    assert {len(held) // 64 for held in one} == set(range(8))  # every size class of the interpreter's allocator


def test_some_of_the_address_space_is_taken() -> None:
    *_, pages = shuffle_memory()
    assert isinstance(pages, mmap)
    assert 0 < len(pages) <= MOST_PAGES * PAGESIZE
