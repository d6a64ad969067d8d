// An identity provider: node oidc_provider.mjs <redirect URI>. It prints its issuer, lets anybody
// in under any name with its pages for development, and takes lines of JSON from standard input:
// the groups by the name of each person; who is not named is unknown from then on.
import { createInterface } from "node:readline";
import { createServer } from "node:http";
import Provider from "oidc-provider";

let people = {};
const server = createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://localhost:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: "audit-gateway",
    client_secret: "a secret: of the gateway",
    redirect_uris: [process.argv[2]],
    grant_types: ["authorization_code", "refresh_token"],
  }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "email", "groups", "offline_access"],
  cookies: { keys: ["of the test"] },
  findAccount: (_, id) => people[id] && {
    accountId: id,
    claims: () => ({
      sub: id, email: `${id}@example.org`, email_verified: true, groups: people[id],
    }),
  },
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  pkce: { required: () => true },
});
server.on("request", provider.callback());
for await (const line of (console.log(issuer), createInterface({ input: process.stdin }))) {
  people = JSON.parse(line);
  console.log("taken");
}
process.exit(0);
