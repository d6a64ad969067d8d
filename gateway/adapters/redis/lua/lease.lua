-- Renew the leases that a replica holds of a subject, and take more, up to what is allowed.
--
-- KEYS[1]: the leases of the subject, a hash: replica -> '<how many> <until>'.
-- ARGV: time, microseconds that a lease lives, replica, how many it holds, most, how many more.
-- Answer: how many more it got, how many the others hold.
-- Atomicity: one key, one step, so that all replicas together never hold more than is allowed.
-- Leases of others that have ended are deleted in it.
local life, replica = tonumber(ARGV[2]), ARGV[3]
local held, most, wanted = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local others, entries = 0, checked(KEYS[1], redis.pcall('HGETALL', KEYS[1])) or {}
for i = 1, #entries, 2 do
  if entries[i] ~= replica then
    local count, expires = string.match(entries[i + 1], '^(%d+) (%d+)$')
    if number(expires) > now then
      others = others + count
    else
      redis.call('HDEL', KEYS[1], entries[i])
    end
  end
end
local more = math.max(0, math.min(wanted, most - others - held))
held = held + more
if held > 0 then
  redis.call('HSET', KEYS[1], replica, string.format('%d %.0f', held, now + life))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life / 1000 + 10000))
else
  redis.call('HDEL', KEYS[1], replica)
end
return {more, others}
