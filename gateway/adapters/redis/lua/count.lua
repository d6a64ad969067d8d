-- Add a batch of a writer's counts to the usage of subjects, once however often it is sent.
--
-- KEYS: for each subject the number of the writer's last batch, then for each tier the hash that
-- has the unit; all of one hash slot.
-- ARGV: number of the batch, milliseconds to remember it, how many tiers, how many counters, for
-- each tier the seconds to keep it; then for each subject its unit in each tier, and its counts.
-- Answer: how many keys there were.
-- Atomicity: the counts of a subject and the number of the batch in one step: a batch that comes
-- again changes nothing.
local batch, remembered = ARGV[1], ARGV[2]
local tiers, counters = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = 4 + tiers
for first = 1, #KEYS, 1 + tiers do
  local writer = KEYS[first]
  if number(read(writer)) < tonumber(batch) then
    redis.call('SET', writer, batch, 'PX', remembered)
    for tier = 1, tiers do
      local key, unit = KEYS[first + tier], ARGV[at + tier]
      local sums = {}
      local counted = checked(key, redis.pcall('HGET', key, unit)) or ''
      for stored in string.gmatch(counted, '%d+') do
        sums[#sums + 1] = tonumber(stored)
      end
      for place = 1, counters do
        sums[place] = string.format('%.0f', (sums[place] or 0) + ARGV[at + tiers + place])
      end
      redis.call('HSET', key, unit, table.concat(sums, ' '))
      redis.call('EXPIRE', key, ARGV[4 + tier])
    end
  end
  at = at + tiers + counters
end
return #KEYS
