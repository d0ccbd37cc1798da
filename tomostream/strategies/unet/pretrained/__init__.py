"""Few-shot learning on a backbone pretrained on simulation: its features, heads fitted in closed form, and their choice by left-out clicks."""
