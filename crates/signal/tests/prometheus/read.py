"""What the numbers of the test `prometheus_own_parser_reads_the_numbers` must say."""

import sys
from prometheus_client.parser import text_string_to_metric_families as parse
found = {}
for family in parse(open(sys.argv[1]).read()):
    assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in found, key
        found[key] = sample.value
get = lambda name, **labels: found[(name, tuple(sorted(labels.items())))]
api = dict(environment="production", route="worker:api")
assert get("astraler_requests_total", outcome="server_error", **api) == 6, found
assert get("astraler_requests_total", outcome="ok", **api) == 60
assert get("astraler_request_duration_seconds_count", **api) == 66
assert get("astraler_request_duration_seconds_bucket", le="+Inf", **api) == 66
assert get("astraler_request_duration_seconds_bucket", le="0.005", **api) == 66
assert 0.06 < get("astraler_request_duration_seconds_sum", **api) < 0.08
odd = dict(environment="production", route='worker:a"\\b')
assert get("astraler_requests_total", outcome="ok", **odd) == 1
for route in (api, odd):
    counts = [v for (n, l), v in found.items() if n.endswith("_bucket") and set(route.items()) <= set(l)]
    assert counts == sorted(counts), counts
assert get("astraler_up", environment="production") == 1
assert get("astraler_database_connections", environment="production") == 2
assert get("astraler_database_connections_limit", environment="production") == 20
print("read", len(found))
