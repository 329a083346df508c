"""Memory is given back when a busy time is over, and not before."""

from imskit.driver import run
from imskit.memory import Trimmer


def test_memory_is_given_back_when_the_load_has_fallen() -> None:
    load = 0
    seen: list[int] = []

    async def main() -> int:
        nonlocal load
        trimmer = Trimmer(lambda: load)
        for load in (10, 1, 100, 80, 51, 50, 40, 26, 25, 10, 0, 200, 100):  # noqa: B007  the trimmer reads it
            trimmer.look()
            seen.append(trimmer.times)
        trimmer.close()
        return 0

    assert run(main()) == 0
    # 10 is not worth it; 100 -> 50 is half; after that 50 is the peak, 25 its half; then 25 is below what is worth it.
    assert seen == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
