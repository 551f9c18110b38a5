from prometheus_client import CollectorRegistry
from support_memory import WEEK, fed, line, receipt

from edge.health.metrics import check_conventions, status_tree
from edge.memory.cache import QueryCache
from edge.memory.metrics import MemoryCollector


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = QueryCache(2)
    asked = []

    def ask(question: str, version: int = 0) -> str:
        def answer() -> str:
            asked.append(question)
            return question.upper()

        return cache.get(question, version, answer)

    assert [ask("a"), ask("b"), ask("a"), ask("c"), ask("a"), ask("b")] == ["A", "B", "A", "C", "A", "B"]
    assert asked == ["a", "b", "c", "b"]
    ask("b", version=1)
    assert asked[-1] == "b"
    assert (cache.hits, cache.misses, len(cache)) == (2, 5, 2)


def test_a_remembered_none_is_an_answer() -> None:
    cache = QueryCache(2)
    cache.get("a", 0, lambda: None)
    assert cache.get("a", 0, lambda: 1) is None


def test_metrics_follow_the_memory_and_keep_the_conventions() -> None:
    memory = fed(receipt(1, line("apple", 1, 199)), receipt(1, line("apple", 1, 199)))
    memory.price_point("apple", WEEK)
    memory.price_point("apple", WEEK)
    registry = CollectorRegistry()
    MemoryCollector(memory, registry)
    check_conventions(registry)
    tree = status_tree(registry)
    assert tree["pomona_memory_bytes"] == memory.bytes_used
    assert tree["pomona_memory_weeks"] == 1
    assert tree["pomona_memory_queries_total"] == {"result=hit": 1, "result=miss": 1}
    receipts = tree["pomona_memory_receipts_total"]
    assert isinstance(receipts, dict)
    assert (receipts["result=counted"], receipts["result=duplicate"]) == (1, 1)
