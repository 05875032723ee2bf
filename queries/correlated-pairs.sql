-- Pairs of series whose changes went together.
-- param limit = 10
-- title: What moved together (different metrics)
SELECT time, "end", series_a, series_b, r, points
FROM correlations
WHERE metric_a <> metric_b
ORDER BY abs(r) DESC, time, series_a, series_b
LIMIT $limit;
