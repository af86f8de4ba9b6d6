// What the clients send.
export const APPLY = `
  mutation Apply($manifest: String!) {
    applyCloudResource(input: { manifest: $manifest }) {
      __typename
      ... on ApplyCloudResourceSuccess { cloudResource { __typename id } }
    }
  }`
export const DEPLOY = `
  mutation Deploy($id: ID!) {
    deployCloudResource(input: { cloudResourceId: $id }) {
      __typename
      ... on DeployCloudResourceSuccess { stackUpdate { __typename id revision status } }
      ... on UserError { code message }
    }
  }`
export const UPDATE = `
  query Update($id: ID!) { stackUpdate(id: $id) { __typename id revision status } }`
export const WATCH = `
  subscription Watch($id: ID!) {
    stackUpdateChanged(id: $id) {
      __typename
      ... on StackUpdateChange { stackUpdate { __typename id revision status } }
    }
  }`
export const EVENTS = `
  subscription Events($id: ID!, $after: Int! = 0) {
    stackUpdateEvents(id: $id, after: $after) {
      __typename
      ... on StackUpdateEventBatch { seq finished events { __typename seq } }
    }
  }`
export const HISTORY = `
  query History($first: Int!, $after: String, $filter: StackUpdateFilter) {
    stackUpdates(first: $first, after: $after, filter: $filter) {
      __typename
      edges { __typename cursor node { __typename id revision status } }
      pageInfo { __typename endCursor hasNextPage }
    }
  }`
