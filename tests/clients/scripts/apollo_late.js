// Two queries are answered while the deployment waits for a file; their answers arrive only after the last push.
import { writeFileSync } from 'node:fs'
import { gql, InMemoryCache } from '@apollo/client'
import { mergeMap } from 'rxjs'
import { newestCache } from './apollo_cache.js'
import { apolloClient, pushed } from './apollo_links.js'
import { HISTORY, UPDATE, WATCH } from './operations.js'

const [url, rule, id, go] = process.argv.slice(2)
const queries = [
  { query: gql(UPDATE), variables: { id } },
  { query: gql(HISTORY), variables: { first: 1 } },
]
const update = ({ stackUpdate, stackUpdates }) => stackUpdate ?? stackUpdates.edges[0].node
const answered = []
let release
const ended = new Promise((resolve) => { release = resolve })
const hold = (operation, forward) => forward(operation).pipe(mergeMap(async (answer) => {
  answered.push(update(answer.data))
  if (answered.length === queries.length) writeFileSync(go, '')
  await ended
  return answer
}))

const cache = rule === 'newest' ? await newestCache(url) : new InMemoryCache()
const client = apolloClient(url, 'websocket', cache, hold)
const late = queries.map((query) => client.query({ ...query, fetchPolicy: 'network-only' }))
const pushes = await pushed(client, gql(WATCH), { id })
release()
await Promise.all(late)
console.log(JSON.stringify({
  answered,
  pushed: pushes.at(-1).stackUpdateChanged.stackUpdate,
  shown: queries.map((query) => update(client.readQuery(query))),
}))
client.stop()
client.close()
