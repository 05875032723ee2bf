-- The episodes furthest from the usual.
-- param limit = 10
-- title: The strongest anomalies
SELECT time, "end", series, value, expected, score, samples
FROM anomalies
ORDER BY abs(score) DESC, samples DESC, time, series
LIMIT $limit;
