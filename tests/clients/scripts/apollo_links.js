// An Apollo Client whose subscriptions go over a websocket or, without one, over multipart HTTP.
import { ApolloClient, ApolloLink, HttpLink } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { isSubscriptionOperation } from '@apollo/client/utilities'
import { createClient } from 'graphql-ws'
import { Checked } from './sockets.js'

export function apolloClient(url, transport, cache, between = (operation, forward) => forward(operation)) {
  const http = ApolloLink.from([new ApolloLink(between), new HttpLink({ uri: url })])
  if (transport === 'multipart') return new ApolloClient({ cache, link: http })
  const websocket = createClient({ url: url.replace('http', 'ws'), webSocketImpl: Checked })
  const link = ApolloLink.split(({ query }) => isSubscriptionOperation(query), new GraphQLWsLink(websocket), http)
  return Object.assign(new ApolloClient({ cache, link }), { close: () => websocket.dispose() })
}

// What a subscription pushes, until the server completes it.
export const pushed = (client, query, variables) => new Promise((resolve, reject) => {
  const pushes = []
  client.subscribe({ query, variables }).subscribe({
    next: ({ data, error }) => (error ? reject(error) : pushes.push(data)),
    error: reject,
    complete: () => resolve(pushes),
  })
})
