-- When resources reach their limit.
-- param metric = %used_percent
-- param limit = 90
-- param horizon = 2h
-- title: When resources reach their limit
SELECT series, now, "limit", early, likely, late, model
FROM capacity_eta($metric, $limit, $horizon)
ORDER BY likely NULLS LAST, early NULLS LAST, series;
