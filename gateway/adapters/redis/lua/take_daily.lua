-- Take the costs of requests from the count of a day, and some units ahead for requests to come.
--
-- KEYS[1]: the count of the day.
-- ARGV: time (not used), most, milliseconds to keep the count, units to take ahead, then the cost
-- of each request.
-- Answer: the count, the units taken ahead, and '1' (taken) or '0' (refused) for each cost in
-- order.
-- Atomicity: one key, one step. Nothing is written if nothing is taken; nothing is taken ahead if a
-- cost is refused.
local most, kept, ahead = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local used = number(read(KEYS[1]))
local answers, taken, refused = {}, 0, false
for i = 5, #ARGV do
  local cost = tonumber(ARGV[i])
  local fits = used + math.max(cost, 1) <= most
  if fits then
    used = used + cost
    taken = taken + cost
  else
    refused = true
  end
  answers[#answers + 1] = fits and '1' or '0'
end
ahead = refused and 0 or math.max(0, math.min(ahead, most - used))
used = used + ahead
if taken + ahead > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', used), 'PX', kept)
end
return {string.format('%.0f', used), ahead, table.concat(answers)}
