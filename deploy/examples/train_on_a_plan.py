"""Train any transformers model on a plan, by a plain loop: `SAMPLER_ADDRESS PLAN_ID CHECKPOINT`."""

import sys

import torch
from athanor.client.stream import StreamDataset
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM


def train(address: str, plan_id: str, checkpoint: str) -> list[float]:
    """Return the loss of each step, nats per token."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for batch in DataLoader(StreamDataset(address, plan_id, 64, 8), batch_size=None):
        loss = model(input_ids=batch["input_ids"], labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(*train(*sys.argv[1:]), sep="\n")
