// Calls a server with the types that openapi-typescript makes of the OpenAPI document. What
// is wrong with a type fails tsc, and what is wrong with an answer fails here.
import createClient from 'openapi-fetch'
import type { paths } from './generated/api.js'

declare const process: { argv: string[], env: Record<string, string | undefined> }

const baseUrl = process.argv[2]
const clientOf = (key: string) => createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } })
const admin = clientOf(process.env.ADMIN_KEY!)

function must<T>(what: string, { data, error }: { data?: T, error?: unknown }, right: (data: T) => boolean = () => true): T {
  if (data === undefined || !right(data)) throw new Error(`${what}: ${JSON.stringify(error ?? data)}`)
  return data
}

const created = must('create', await admin.POST('/v1/admin/system-keys', { body: { label: 'typescript', permissions: ['system-keys:rotate'] } }))
const { id, key } = created.data
const path = { id }
const one = '/v1/admin/system-keys/{id}'
must('list', await admin.GET('/v1/admin/system-keys', { params: { query: { q: 'types', sort: '-label' } } }), ({ data }) => data.length === 1)
must('read', await admin.GET(one, { params: { path } }), ({ data }) => data.label === 'typescript' && data.expires_at === null)
must('self', await clientOf(key).GET('/v1/admin/system-keys/self'), ({ data }) => data.id === id)
must('activity', await admin.GET(`${one}/activity`, { params: { path } }), ({ data }) => data.days.every(({ requests }) => requests > 0))
must('rotate self', await clientOf(key).POST('/v1/admin/system-keys/self/rotate', { body: {} }), ({ data }) => data.replaces === id)
must('rotate', await admin.POST(`${one}/rotate`, { params: { path }, body: { deadline: '2d' } }), ({ data }) => data.replaces === id)
must('revoke', await admin.DELETE(one, { params: { path } }), ({ data }) => data.id === id)
must('revoke many', await admin.DELETE('/v1/admin/system-keys', { params: { query: { label_prefix: 'types', dry_run: 'true' } } }))
must('audit log', await admin.GET('/v1/admin/audit-log', { params: { query: { key_id: id } } }), ({ data }) => data.length > 1)
must('GraphQL', await admin.POST('/v1/gql', { body: { query: '{ adminSystemKeys { total } }' } }), ({ errors }) => errors === undefined)
const gone = await admin.GET(one, { params: { path } })
if (gone.response.status !== 404 || gone.error?.error.code !== 'not_found') throw new Error('a key that is gone was read')
console.log('the client of openapi-typescript has called the operations')
