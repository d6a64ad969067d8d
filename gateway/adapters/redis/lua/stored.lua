-- Part of scripts: what is stored, or nil if a script cannot have written it.
--
-- `read` takes text under a key, `checked` the answer to a command on a key, `number` a number of
-- zero or more from text. A key that holds another type is deleted.
local function checked(key, got)
  if type(got) == 'table' and got.err then
    redis.call('DEL', key)
    return nil
  end
  return got or nil
end
local function read(key) return checked(key, redis.pcall('GET', key)) end
local function number(text)
  local found = tonumber(text or '')
  if not found or found ~= found or found < 0 or found == math.huge then return 0 end
  return found
end
