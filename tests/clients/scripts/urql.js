// urql deploys a manifest and watches it over graphql-ws to its end.
import { cacheExchange, Client, fetchExchange, subscriptionExchange } from '@urql/core'
import { createClient } from 'graphql-ws'
import { APPLY, DEPLOY, UPDATE, WATCH } from './operations.js'
import { Checked, sockets } from './sockets.js'

const [url, manifest] = process.argv.slice(2)
const websocket = createClient({ url: url.replace('http', 'ws'), webSocketImpl: Checked })
const forwardSubscription = ({ query, variables }) => ({
  subscribe: (sink) => ({ unsubscribe: websocket.subscribe({ query, variables }, sink) }),
})
const client = new Client({
  url,
  exchanges: [cacheExchange, fetchExchange, subscriptionExchange({ forwardSubscription })],
})
const data = (result) => {
  if (result.error) throw result.error
  return result.data
}
const watch = (id) => new Promise((resolve) => {
  const pushes = []
  client.subscription(WATCH, { id }).subscribe((result) => {
    const { stackUpdate } = data(result).stackUpdateChanged
    pushes.push(stackUpdate)
    if (stackUpdate.status !== 'IN_PROGRESS') resolve(pushes)
  })
})

const applied = data(await client.mutation(APPLY, { manifest }))
const deployed = data(await client.mutation(DEPLOY, { id: applied.applyCloudResource.cloudResource.id }))
const { id } = deployed.deployCloudResource.stackUpdate
const before = data(await client.query(UPDATE, { id })).stackUpdate
const pushes = await watch(id)
const after = data(await client.query(UPDATE, { id }, { requestPolicy: 'network-only' })).stackUpdate
await websocket.dispose()
console.log(JSON.stringify({ before, pushes, after, sockets }))
