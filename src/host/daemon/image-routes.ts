import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import { failed, ok } from '../../base/result.ts';
import { type ApiOptions, answer } from './api-answer.ts';
import { IMAGE_PARTS, type ImagePart, noSuchImage, parseImageReference } from './host-images.ts';

const nameParameters = { type: 'object', properties: { image: { type: 'string' } }, required: ['image'] };

/** The boot images that this host owns. */
export function addImageRoutes(server: FastifyInstance, { daemon }: ApiOptions): void {
  const { images } = daemon;
  server.get('/v1/images', { schema: { summary: 'The boot images of this host' } }, () => images.own.list());
  server.put<{ Params: { image: string }; Body: { kernel: string; initrd?: string; append?: string } }>(
    '/v1/images/:image',
    {
      schema: {
        summary: 'Keeps a kernel and an initrd of this host as an image',
        params: nameParameters,
        body: {
          type: 'object',
          properties: { kernel: { type: 'string' }, initrd: { type: 'string' }, append: { type: 'string' } },
          required: ['kernel'],
        },
      },
    },
    async (request, reply) => {
      const { kernel, initrd, append = '' } = request.body;
      const added = await images.own.add(request.params.image, { kernel, initrd, append });
      return added.ok ? added.value : answer(reply, added);
    },
  );
  server.delete<{ Params: { image: string } }>(
    '/v1/images/:image',
    { schema: { summary: 'Removes an image that no VM boots from', params: nameParameters } },
    async (request, reply) => {
      const { image } = request.params;
      const user = [...daemon.member.reading.vms.values()].find(({ value }) => {
        const { image: used } = value.definition as { image?: unknown };
        return typeof used === 'string' && parseImageReference(used)?.name === image;
      });
      const removed = user
        ? failed(`${user.value.vm.name} boots from image ${image}: lockstep vm destroy it first`)
        : await images.own.remove(image);
      return answer(reply, removed.ok ? ok(undefined) : removed);
    },
  );
  server.get<{ Params: { image: string; part: ImagePart } }>(
    '/v1/images/:image/:part',
    {
      schema: {
        summary: 'The kernel or the initrd of the image with this digest',
        params: {
          type: 'object',
          properties: { image: { type: 'string' }, part: { enum: [...IMAGE_PARTS] } },
          required: ['image', 'part'],
        },
      },
    },
    async (request, reply) => {
      const { image, part } = request.params;
      const file = images.own.file(image, part);
      if (file === undefined) return answer(reply, failed(noSuchImage(image)));
      const { size } = await stat(file);
      return reply
        .type('application/octet-stream')
        .header('content-length', size)
        .send(createReadStream(file));
    },
  );
}
