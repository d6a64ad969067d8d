-- Take the costs of requests from a rate, and some units ahead for requests to come.
--
-- KEYS[1]: the level of the rate.
-- ARGV: time, units per microsecond, burst, units to take ahead, then the cost of each request.
-- Answer: the level, the units taken ahead, and '1' (taken) or '0' (refused) for each cost in
-- order.
-- Atomicity: one key, one step. Nothing is written if nothing is taken; nothing is taken ahead if a
-- cost is refused.
local per_micro, burst, ahead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local slack = 0.000001
local level = settled(KEYS[1], per_micro)
local answers, taken, refused = {}, 0, false
for i = 5, #ARGV do
  local cost = tonumber(ARGV[i])
  local fits = level + math.max(cost, 1) <= burst + slack or (cost > burst and level <= slack)
  if fits then
    level = level + cost
    taken = taken + cost
  else
    refused = true
  end
  answers[#answers + 1] = fits and '1' or '0'
end
if refused then
  ahead = 0
else
  ahead = math.max(0, math.min(ahead, math.floor(burst - level + slack)))
  level = level + ahead
end
if taken + ahead > 0 then store(KEYS[1], level, per_micro) end
return {string.format('%.17g', level), ahead, table.concat(answers)}
