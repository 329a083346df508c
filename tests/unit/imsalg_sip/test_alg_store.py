"""The memory store keeps the contract of every store."""

from imsalg.shell.store import MemoryStore, Store


def test_values_by_kind_and_key() -> None:
    store: Store = MemoryStore()
    assert store.get("binding", "a") is None
    store.put("binding", "a", b"1")
    store.put("binding", "b", b"2")
    store.put("call", "a", b"3")
    store.put("binding", "a", b"4")
    assert store.get("binding", "a") == b"4"
    for key, _ in store.items("binding"):
        store.delete("binding", key)  # deleting while looking is allowed
    assert list(store.items("binding")) == []
    store.delete("binding", "a")
    assert store.get("call", "a") == b"3"
    store.close()
