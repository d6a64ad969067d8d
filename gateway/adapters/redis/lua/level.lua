-- Part of scripts, after `now` and `stored`: a level that falls as time passes.
--
-- It is stored as '<level> <time>': units, and microseconds since 1970. If the clock of the server
-- stands before the stored time, the level does not fall, and goes on from the server's time.
local function settled(key, per_micro)
  local level, at = string.match(read(key) or '', '^(%S+) (%S+)$')
  level, at = number(level), number(at)
  return math.max(0, level - math.max(0, now - at) * per_micro)
end
local function store(key, level, per_micro)
  redis.call('SET', key, string.format('%.17g %.0f', level, now),
             'PX', string.format('%.0f', math.ceil(level / per_micro / 1000) + 10000))
end
