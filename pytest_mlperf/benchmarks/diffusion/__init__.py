"""Pictures from text: captions, the sampler, scores."""
