-- Charge what has been delivered to each of the limits of a key, above the limit if need be.
--
-- KEYS: one for each limit, all of one hash slot.
-- ARGV: time, then for each limit: units per microsecond (0: a daily count), milliseconds to keep a
-- daily count, the amount that was delivered.
-- Answer: for each limit its level or count after the charge.
-- Atomicity: all limits in one step. An amount of 0 only reads.
local levels = {}
for i, key in ipairs(KEYS) do
  local per_micro, kept = tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
  local amount = tonumber(ARGV[3 * i + 1])
  local level
  if per_micro > 0 then
    level = settled(key, per_micro) + amount
    if amount > 0 then store(key, level, per_micro) end
  else
    level = number(read(key)) + amount
    if amount > 0 then redis.call('SET', key, string.format('%.0f', level), 'PX', kept) end
  end
  levels[i] = string.format('%.17g', level)
end
return levels
