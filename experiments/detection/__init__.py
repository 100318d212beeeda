"""Full training of what finds objects in images, boxes alone or with masks; the families say which networks."""
