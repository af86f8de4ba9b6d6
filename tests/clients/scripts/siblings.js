// While a subscription waits for a file, wrong operations and a right query go over the same socket.
import { writeFileSync } from 'node:fs'
import { createClient } from 'graphql-ws'
import { EVENTS, UPDATE } from './operations.js'
import { Checked, sockets } from './sockets.js'

const [url, id, go] = process.argv.slice(2)
const WRONG = ['query {', '{ nothing }', 'subscription { nothing }', `query Other { __typename } ${EVENTS} ${UPDATE}`]
const client = createClient({ url, webSocketImpl: Checked, lazy: false, retryAttempts: 0 })

// What an operation gives, and how it ends: with null, or with what the server sent or the socket closed with.
const outcome = (payload, next = () => {}) => new Promise((resolve) => {
  const given = []
  client.subscribe(payload, {
    next: (result) => { given.push(result); next() },
    error: (error) => resolve({ given, error: Array.isArray(error) ? error : `closed: ${error.code ?? error}` }),
    complete: () => resolve({ given, error: null }),
  })
})

let began
const first = new Promise((resolve) => { began = resolve })
const sibling = outcome({ query: EVENTS, variables: { id } }, began)
await first
const wrong = []
for (const query of WRONG) wrong.push(await outcome({ query, variables: { id } }))
const right = await outcome({ query: UPDATE, variables: { id } })
writeFileSync(go, '')
const batches = (await sibling).given.map((result) => result.data.stackUpdateEvents)
await client.dispose()
console.log(JSON.stringify({ wrong, right, batches, sockets }))
