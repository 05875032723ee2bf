-- When resources reach their limit.
-- param metric = %used_percent
-- param limit = 90
-- param horizon = 2h
-- title: When resources reach their limit
SELECT series, now, "limit", p10, p50, p90, model
FROM capacity_eta($metric, $limit, $horizon)
ORDER BY p50 NULLS LAST, p10 NULLS LAST, series;
