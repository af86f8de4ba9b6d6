import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { Kind, parse } from 'graphql'
import { createClient } from 'graphql-ws'

const ENDPOINT = new URL('graphql', document.baseURI)
const SOCKET = new URL(ENDPOINT)
SOCKET.protocol = ENDPOINT.protocol.replace('http', 'ws')

const KEEP_ALIVE = 10_000 // milliseconds between pings
const TOKEN_REFUSED = 4403 // the close code after which trying again with the same token would go on for ever

function authorization(token) {
  return token ? { authorization: `Bearer ${token}` } : {}
}

// Whether the server answers under this token. One that can't be reached may do so later: GraphiQL will show it.
export async function isLetIn(token) {
  try {
    const response = await fetch(ENDPOINT, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...authorization(token) },
      body: JSON.stringify({ query: '{ __typename }' }),
    })
    return response.status !== 401
  } catch {
    return true
  }
}

// What GraphiQL knows of a document follows a little later than the tab: run at once, it would name the last tab's.
function readAgain(operation, options) {
  let documentAST
  try {
    documentAST = parse(operation.query)
  } catch {
    return [operation, options] // the server says what is wrong
  }
  const operations = documentAST.definitions.filter(({ kind }) => kind === Kind.OPERATION_DEFINITION)
  const names = operations.map(({ name }) => name?.value)
  const operationName = names.length === 1 ? names[0] : operation.operationName
  return [{ ...operation, operationName }, { ...options, documentAST }]
}

// Operations over HTTP, and each subscription over a socket of its own: so both carry the headers of their tab, which
// come before the token.
export function createFetcher(token) {
  return (operation, options) => {
    const named = Object.entries(options?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])
    const headers = { ...authorization(token), ...Object.fromEntries(named) }
    const wsClient = createClient({
      url: SOCKET.href,
      connectionParams: headers,
      keepAlive: KEEP_ALIVE,
      retryAttempts: Infinity,
      shouldRetry: (closed) => closed.code !== TOKEN_REFUSED,
    })
    const fetcher = createGraphiQLFetcher({ url: ENDPOINT.href, wsClient, enableIncrementalDelivery: false })
    return fetcher(...readAgain(operation, { ...options, headers }))
  }
}
